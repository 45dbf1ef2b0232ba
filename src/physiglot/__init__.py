"""physiglot: simulate physical systems, learn their language, reproduce the papers."""
