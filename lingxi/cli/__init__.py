"""The `lingxi` command: one file for each of its commands, dispatched by `main`."""
