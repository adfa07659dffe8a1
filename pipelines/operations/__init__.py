"""What is done to a lake apart from streaming: rebuild, replay, upkeep, backup, decisions, quality."""
