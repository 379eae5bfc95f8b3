"""What runs can be imported from."""

#: What a source can be said to be; without it that is found out.
KINDS = ("jsonl", "json", "msgpack", "pack", "filebroker", "databroker")
