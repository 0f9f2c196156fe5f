-- A tenant sees and changes what is its own, which begins with its subscriptions.

CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant) WHERE tenant IS NOT NULL;

-- What failed is looked for among very many that arrived; few are in here, so most deliveries pay nothing for it.
CREATE INDEX deliveries_failed ON deliveries (status, key) WHERE status IN ('exhausted', 'cancelled');
CREATE INDEX deliveries_failed_of ON deliveries (subscription_id, status, key) WHERE status IN ('exhausted', 'cancelled');
