"""What the report of sfi-bench and that of `sfi-sglang eval` share: tables, Markdown, the page, the plots' style."""
