"""Work on what strangers have made, in processes that may take little time and memory: pictures and web pages."""
