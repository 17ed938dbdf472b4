"""One file for each architecture: how Hugging Face writes its model types."""
