"""What lenses, sensors, resizing and files do to a picture on its way to a user: for training and measuring."""
