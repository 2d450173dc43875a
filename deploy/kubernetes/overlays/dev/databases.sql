-- A database and a user for each service; run when the database server starts for the first time.
CREATE USER orchestrator PASSWORD 'amends-dev';
CREATE DATABASE orchestrator OWNER orchestrator;
REVOKE CONNECT ON DATABASE orchestrator FROM PUBLIC;
CREATE USER "order" PASSWORD 'amends-dev';
CREATE DATABASE "order" OWNER "order";
REVOKE CONNECT ON DATABASE "order" FROM PUBLIC;
CREATE USER payment PASSWORD 'amends-dev';
CREATE DATABASE payment OWNER payment;
REVOKE CONNECT ON DATABASE payment FROM PUBLIC;
