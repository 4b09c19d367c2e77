"""Diagnosis as a service: an HTTP API with a web page, and DICOMweb. For a test network, not for patients."""
