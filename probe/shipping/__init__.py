"""How the agent gets into a sandbox: one archive of pure Python, read from stdin or as a file. Itself it stays outside.

archive   the agent and the libraries under it, as one zip with the same bytes from the same sources
cache     the archive, kept from one run to the next
loader    what runs first inside: reads the archive from stdin and imports from memory (standard library only)
ship      the boot line, and the bytes that follow on stdin
"""
