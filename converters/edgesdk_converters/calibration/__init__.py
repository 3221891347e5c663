"""Is this data fit to calibrate a model? Streamed statistics, and the doctor who reads them."""
