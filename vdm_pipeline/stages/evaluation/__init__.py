"""`image_metrics`: are the images real to look at, of the class that was asked for, new, and of any use?"""
