-- Roles that may do what they have to, and nothing else. Run it as the owner of the tables, who may make roles, in the
-- store's database and after every `collegium migrate`; twice is harmless. Then let your logins be members:
--
--   CREATE ROLE api LOGIN PASSWORD '...' IN ROLE collegium_app;
--   CREATE ROLE acme LOGIN PASSWORD '...' IN ROLE collegium_tenant;
--   ALTER ROLE acme SET collegium.tenant = 'acme';
--
-- collegium_app     reads and writes the rows of all tenants: serve, worker, and people's commands
-- collegium_reader  reads the rows of all tenants: reports, read replicas
-- collegium_tenant  reads and writes the rows of the tenant in the setting collegium.tenant, and sees no others
--
-- None of them may make, change or drop a table. The setting guards a program from its own mistakes: somebody who is
-- given SQL of his own can set another tenant, so let him come through the API.

DO $$
DECLARE
    name text;
    store text := quote_ident(current_schema());
BEGIN
    FOREACH name IN ARRAY ARRAY['collegium_app', 'collegium_reader', 'collegium_tenant'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', name);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', store, name);
        EXECUTE format('GRANT SELECT ON meta TO %I', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'heads', 'events', 'fences', 'blobs', 'records', 'tombstones', 'checkpoints', 'workers'
    ] LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO collegium_app', name);
        EXECUTE format('GRANT SELECT ON %I TO collegium_reader', name);
        EXECUTE format('DROP POLICY IF EXISTS all_tenants ON %I', name);
        EXECUTE format('CREATE POLICY all_tenants ON %I TO collegium_app USING (true) WITH CHECK (true)', name);
        EXECUTE format('DROP POLICY IF EXISTS all_tenants_to_read ON %I', name);
        EXECUTE format('CREATE POLICY all_tenants_to_read ON %I FOR SELECT TO collegium_reader USING (true)', name);
        IF name <> 'workers' THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO collegium_tenant', name);
        END IF;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION collegium_make_partitions(integer) TO collegium_app;
