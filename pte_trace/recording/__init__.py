"""Recordings: intervals written to a file as they come, and read again.

While it is written, a recording is a journal (`journal`): whole intervals, each with its checksum,
whatever moment it is killed at. When it ends it becomes Parquet (`parquet`). Both are read by
`reading`. Nothing here imports pandas.
"""
