"""Images to train and test on: what is served, how it is read, and in which order."""
