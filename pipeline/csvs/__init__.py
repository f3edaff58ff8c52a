"""CSVs of products: detecting their form, reading, checking and writing them; and lists of hashes.

Knows no tables.

``dialect``  how one CSV is written: encoding, separator, line ends, columns
``reading``  find the problems of a CSV of products; iterate over its rows
``hashes``   read lists of hashes, as people and other systems write them
``writing``  write the result CSV, the problems, the rows that failed
"""
