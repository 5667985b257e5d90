"""What do frozen layers cost, and what do they save?"""
