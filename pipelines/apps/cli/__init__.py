"""The command line `stitchlake`, one module per command."""
