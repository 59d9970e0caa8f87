"""Northwind, a trading company of five services: crm, hr, inventory, sales and logistics."""
