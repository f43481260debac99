"""Local speech engines behind the OpenAI audio API; a main of its own."""
