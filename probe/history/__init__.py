"""What a canary remembers: one SQLite file per schedule. `store` writes and reads it; `schema` shapes it.

One writer (`lock`), many readers. `packing` holds whole reports in little space; `outbox` what is still to be told.
"""
