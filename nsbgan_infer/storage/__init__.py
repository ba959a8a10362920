"""Storage: every byte that comes or goes. Files, components, checkpoints, the Hub; the only room that opens pickles."""
