"""`lograft.sync`: the client for blocking programs."""

from lograft.client.sync import Admin, Client, Consumer, Deliveries, Delivery, Groups, Producer

__all__ = ["Admin", "Client", "Consumer", "Deliveries", "Delivery", "Groups", "Producer"]
