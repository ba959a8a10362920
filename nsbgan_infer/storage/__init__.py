"""Every byte that comes or goes: files, components, checkpoints, the Hub, and the weights that ship."""
