#!/usr/bin/env python3
"""Adds up the line items of the UCI "Online Retail" data to one row a customer and day.

    python training/data/online_retail/aggregate.py online_retail.csv.gz > training/data/online_retail/transactions.csv

Input: CSV (gzipped or not) with the columns InvoiceNo, Quantity, InvoiceDate (YYYY-MM-DD HH:MM), UnitPrice and CustomerID.
Kept are lines with a customer, a positive quantity and a positive price that are no cancellation (invoice C...).
"""

import csv
import gzip
import sys
from collections import defaultdict
from decimal import Decimal


def main(path):
    opened = gzip.open if path.endswith(".gz") else open
    days = defaultdict(lambda: [0, Decimal(0)])
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            quantity, price = int(line["Quantity"]), Decimal(line["UnitPrice"])
            if line["CustomerID"] and quantity > 0 and price > 0 and not line["InvoiceNo"].startswith("C"):
                day = days[int(float(line["CustomerID"])), line["InvoiceDate"][:10]]
                day[0] += quantity
                day[1] += quantity * price
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["customer_id", "date", "items", "amount_gbp"])
    for (customer, date), (items, amount) in sorted(days.items()):
        out.writerow([customer, date, items, f"{amount:.2f}"])


if __name__ == "__main__":
    main(sys.argv[1])
