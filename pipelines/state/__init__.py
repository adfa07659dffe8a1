"""What a batch knows of the published tables: held in the driver's memory, or looked up and kept for the batch."""
