"""CSVs of products: found out, read, checked and written. They know no tables.

``dialect``  how one CSV is written: encoding, separator, line ends, columns
``reading``  find the faults of a CSV of products; iterate over its rows
``writing``  write the result CSV, the faults, the rows that failed
"""
