"""The web page `nsbgan demo`: `actions` does the work without knowing the page, `page` lays it out in gradio."""
