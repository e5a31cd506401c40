"""What `prepare_data.py` knows of each data set: how it is published, and what is made of it."""
