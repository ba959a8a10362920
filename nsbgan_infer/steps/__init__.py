"""What a pipeline is called with and gives back, and how its parts meet: the details of the numbered steps."""
