"""Assignment problems: arrays in, tables out."""
