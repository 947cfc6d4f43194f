"""What tests share: foreign clients that read what was produced, and Java as a judge."""
