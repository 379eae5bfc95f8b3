"""Which runs exist, and which of them answer a question, without opening any.

Which runs exist is written down beside them: `ledger` (the files of `snapshots` and logs), made of `records`,
merged by `compaction`, and checked against the run directories by `inventory` and `survey`.

What is known of them is kept on this machine: `manifest`, a `database` in the `cache`, gives `entries`; `library`
keeps it up with the ledger, and `housekeeping` does in the background what can wait.

A question is read by `parsing` (MongoDB's language, the conditions of `query` on the `values` at a path) and by `text`
(words).  `planning` says as an expression of `candidates` what the index can answer of it, `time_ranges` what the
manifest can, and `wording` says it in words.

The `index` (`terms` of runs, gathered in `batches`, in `parts` that are files of `postings`) proposes; `indexing` keeps
it up.  `search` puts all of it together: the index proposes, the documents decide, the manifest gives the order.
"""
