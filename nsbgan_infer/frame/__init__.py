"""The frame of a pipeline: what it is asked and what it returns, how its parts meet, foreign parts, and its bars."""
