"""What is shown of weights: model cards, sample sheets, and what a repository of the Hub holds."""
