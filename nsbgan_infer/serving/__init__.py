"""One application: the HTTP service (`nsbgan serve`) and, within it, the web page (`nsbgan demo`).

`http` has the routes, `batcher` the queue, `making` the work, `offers` the names that requests may use, `limits` what
is taken on, `server` the address, `ray` replicas elsewhere. `actions` does the page's work without knowing the page,
`page` and `tabs` lay it out in gradio, `demo` puts both together.
"""
