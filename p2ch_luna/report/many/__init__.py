"""The diagnosis of many scans."""
