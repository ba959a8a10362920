"""The web page `nsbgan demo`: `studio` does the work without knowing the page, `page` lays it out in gradio."""
