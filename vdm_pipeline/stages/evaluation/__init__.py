"""`image_metrics`: are the generated images realistic, of the requested class, new, and useful?"""
