"""report.html: one page with findings, pictures and a viewer."""
