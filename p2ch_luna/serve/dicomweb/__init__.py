"""Studies of a DICOMweb server: fetched, diagnosed, and what was found stored beside them."""
