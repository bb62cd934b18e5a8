"""From an ambiguous data set to a report or a submission: `hw.ambiguity.scan` and `hw.ambiguity.solve`.

Reads data sets, has their features extracted, and writes what comes out; the thinking is done in
`headwater.heads.ambiguity`.
"""
