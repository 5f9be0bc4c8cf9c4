//! Reading and writing tables: CSV, NDJSON and Parquet behind one row stream.
