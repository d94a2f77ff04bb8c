"""Search strategies as ask-tell objects, and the evaluator that scores what they ask."""
