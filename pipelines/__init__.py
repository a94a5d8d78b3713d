"""What every domain shares: configuration, cases, training, evaluation, tracking, batch inference, reports.

Knows no domain, and never imports `shared_attention`: a domain's model brings the two together.
"""
