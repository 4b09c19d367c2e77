"""Training data: scans, patches, crops, phantoms and implants."""
