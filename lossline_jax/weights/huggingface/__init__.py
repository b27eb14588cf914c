"""Reading and writing of Hugging Face folders. Read `mapping` and `configs` first, then `load` and `save`."""
