"""The HTTP interface: thin routes over `mesh_core`. No SQL text and no Kafka client live here."""
