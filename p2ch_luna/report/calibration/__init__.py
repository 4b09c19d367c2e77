"""One probability of both stages, fitted on such scans."""
