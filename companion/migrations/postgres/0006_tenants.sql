-- A tenant sees and changes what is its own, which begins with its subscriptions.

CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant) WHERE tenant IS NOT NULL;
