"""What steadies fine-tuning on a thousand examples?"""
