"""CSVs of products: detecting their form, reading, checking and writing them; and lists of hashes.

Knows no tables.

``lines``     the lines and rows of a CSV, bounded; its problems
``mapping``   which columns hold number, name and images: known headers of shop systems, and others
``mapping_file``  named mappings in a file
``dialect``   how one CSV is written: encoding, separator, line ends, header, columns
``cells``     the URLs of one cell, and where each stands in it
``products``  iterate over the products of a CSV, each with its rows and images
``reading``   find the problems of a CSV of products
``hashes``    read lists of hashes, as people and other systems write them
``writing``   write the result CSV, the problems, the rows that failed
``splicing``  write a CSV again with other texts in some cells, and byte for byte the same elsewhere
``workbook``  the rows of an Excel workbook, as a stream
``workbook_parts``  the parts of its archive, within bounds
``workbook_reader``  what openpyxl makes of them, one row at a time
``workbook_writing``  write a workbook again with other texts in some cells
``returning`` the result in the form of its file, for the shop system that it came from
"""
