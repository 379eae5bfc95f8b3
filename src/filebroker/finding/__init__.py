"""Which runs exist, and which of them answer a question.

Nothing here knows what is inside a run beyond its start and stop documents.
"""
