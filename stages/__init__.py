"""One module per stage of the pipeline, named after it."""
